"""Classification of many fields: one task a field, a run store, overlaps between fields."""

-- Give MyDB its room back; only a table that gqs itself made is ever named here.
DROP TABLE {table}

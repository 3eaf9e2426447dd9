"""Why a source was judged as it was: what it hangs on, and what it is like."""

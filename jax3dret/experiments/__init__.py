"""Tables: many runs side by side, for every system."""

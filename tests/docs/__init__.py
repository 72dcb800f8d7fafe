"""The documentation as something that is tested: its code runs, and its tables are complete."""

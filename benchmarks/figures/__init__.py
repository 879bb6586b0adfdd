"""The figures: each module runs contestants in turn and returns what it found."""

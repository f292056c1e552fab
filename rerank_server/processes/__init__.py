"""Several processes behind one port: a supervisor that starts them, and what they tell it."""

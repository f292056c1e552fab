"""Rankings to compare with: simple rules, neighbours and LightGBM."""

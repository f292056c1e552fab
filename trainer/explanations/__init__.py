"""Why a product stands where it stands, and what a model goes by."""

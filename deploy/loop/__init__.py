"""Traffic back into training: shoppers, quality of pages, daily rounds."""

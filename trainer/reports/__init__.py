"""Reports of runs, as text, pictures and pages."""

"""Images, the run book and the demo of CrossRank."""

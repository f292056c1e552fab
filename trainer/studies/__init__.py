"""Several runs compared: ablation, tuning, transfer, days, modalities and cold start."""

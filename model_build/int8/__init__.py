"""int8: calibrated on the checkpoint's own trajectories, with the layers left out that suffer most."""

"""Checkpoints: folders, hub ids, LoRAs, ControlNets and other autoencoders, opened and judged."""

"""Subjects: the checkpoints, bundles and engines that are measured."""

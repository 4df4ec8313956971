"""Scaling: a policy document becomes a timeline of limits, and executors follow it.

`document` reads what a person wrote into a `policy`; `timeline` says which limits hold when, and why. What comes after
reads only the timeline and the metrics: `application_autoscaling`, `keda` and `pool` are the engines that carry it out.
"""

from __future__ import annotations

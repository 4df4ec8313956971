"""The replicas of this machine: how many, each a process, and what each may use."""

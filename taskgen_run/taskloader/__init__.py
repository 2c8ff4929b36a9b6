"""The taskloader: the wire protocol of real targets, and what speaks it on a Linux machine."""

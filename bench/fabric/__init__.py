"""The test bench of the fabric: hosts, cables, faults and processes to break it with."""

"""The command line: the product without a cluster, and a view on one."""

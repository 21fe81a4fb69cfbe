"""Who talks to whom: communicators, topology, flat buffers, averaging and gradient allreduce."""

"""Pure functions on the measurements of batch-size studies (Shallue 2019): no torch, no MPI."""

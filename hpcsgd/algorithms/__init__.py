"""In which order ranks step and synchronise. Algorithms see a communicator's reducers, never MPI itself."""

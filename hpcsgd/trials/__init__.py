"""A batch-size study as a job: hundreds of short trainings, shared out to ranks, each kept whole or not at all."""

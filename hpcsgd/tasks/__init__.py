"""What is learned: a model, its losses and its metrics, the package's own or those of an import path."""

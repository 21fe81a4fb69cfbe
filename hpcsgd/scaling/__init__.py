"""What runs cost: models fitted on logs, predictions, comparisons, and a verdict. Pure functions of measurements."""

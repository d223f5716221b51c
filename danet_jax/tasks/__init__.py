"""What the commands do, as functions: training, evaluation and prediction from end to end."""

"""What a job did not use of what it held, or used for nothing: each rule with its measured value and threshold."""

"""From logits to a decision: calibration, prevalence, operating points. Fit and apply side by side."""

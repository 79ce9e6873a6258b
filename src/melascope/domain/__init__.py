"""The values that travel through melascope: images, cases, diagnoses, assessments. Standard library and NumPy."""

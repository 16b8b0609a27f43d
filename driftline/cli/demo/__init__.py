"""`driftline demo`: the main job, on a real model and real questions, told step by step."""

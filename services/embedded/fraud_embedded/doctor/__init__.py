"""`./fraud doctor`: checks this machine and the platform, and says what to do about each problem."""

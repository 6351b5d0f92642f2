"""Other people's checkpoints: read without running code from them, and mapped completely or
refused.
"""

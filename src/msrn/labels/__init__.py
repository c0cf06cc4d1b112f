"""What are the labels called, what do the names mean, and which go together? (No torch here.)"""

"""What can be learnt of a model beside its files: from objects, data and the environment.

Failing to learn something never fails an upload: each of these gives less, with a warning where it matters.
"""

"""Managers: one framework each, between objects in memory and files in a folder.

`base` says what a manager is, `detection` finds the one for an object without importing a framework, `bundle` saves and
loads all objects of one upload, `pickling` is the one place where pickles are written and allowed. Adding a framework
is one new file beside these and one line in `detection.BUILTIN`; other packages add theirs through the entry-point
group `modelstore.managers` and test them with `modelstore.testing.ManagerContract`.
"""

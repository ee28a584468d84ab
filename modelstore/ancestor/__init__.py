"""Stores that operatorai/modelstore (0.0.74 to 0.0.82) wrote: read where they lie, and never written to.

This room knows how that library names its objects, what its metadata says, how its archives are packed and what its
`load` gives for each framework. It hands all of it to the registry as events of our own logs.
"""

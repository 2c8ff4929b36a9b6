"""The compiled simulator behind `session=fastsim`: arrays in, arrays out.

``batch`` simulates many task sets in one call. The modules that import numba are imported only
where a simulation begins, as numba is slow to import.
"""

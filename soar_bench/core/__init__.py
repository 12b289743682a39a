"""Ground floor: what all three packages may use. Imports nothing else of soar_bench."""

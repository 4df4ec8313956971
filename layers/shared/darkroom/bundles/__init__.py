"""Bundles as all rooms know them: the manifest, the catalogue of versions, fingerprints, signatures, what rows cost."""

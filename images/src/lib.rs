//! Puts the container images together from Debian packages.

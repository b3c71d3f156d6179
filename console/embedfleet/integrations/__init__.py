"""Collections as other libraries want them; each module needs the extra of its name."""

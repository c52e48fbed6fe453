"""The commands, one file each: options in, exit codes out."""

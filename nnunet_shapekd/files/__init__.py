"""Reading and writing: checkpoints, images, label maps, patients, folders. Imports no room of this package."""

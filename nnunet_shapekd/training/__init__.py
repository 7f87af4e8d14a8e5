"""What nnU-Net calls: the trainers' mixins, and what only they need. Imports method, files, drawing."""

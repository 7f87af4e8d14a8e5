"""One slice as baseline, teacher and student see it (the paper's figure 3). Imports training, files, drawing."""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
version = {}
exec((ROOT / "nnunet_shapekd" / "__init__.py").read_text(encoding="utf-8"), version)

setup(
    name="nnunet_shapekd",
    version=version["__version__"],
    description="Shape-intensity knowledge distillation (SIKD) as a plugin of nnU-Net v2",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The nnunet_shapekd developers",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
    keywords="nnU-Net segmentation knowledge distillation domain shift medical imaging",
    python_requires=">=3.10,<3.14",
    # trainers/ and dataset_conversion/ are too general as top-level names on a user's machine
    packages=[
        "nnunet_shapekd",
        "nnunet_shapekd.across",
        "nnunet_shapekd.commands",
        "nnunet_shapekd.evaluation",
        "nnunet_shapekd.figure",
        "nnunet_shapekd.files",
        "nnunet_shapekd.method",
        "nnunet_shapekd.report",
        "nnunet_shapekd.stress",
        "nnunet_shapekd.training",
        "nnunet_shapekd.trainers",
        "nnunet_shapekd.dataset_conversion",
    ],
    package_dir={
        "nnunet_shapekd": "nnunet_shapekd",
        "nnunet_shapekd.trainers": "trainers",
        "nnunet_shapekd.dataset_conversion": "dataset_conversion",
    },
    package_data={"nnunet_shapekd.report": ["*.html"]},
    install_requires=[
        "nnunetv2>=2.8,<3",
        "dynamic-network-architectures>=0.4.4,<0.5",
        "torch>=2.6",
        "numpy>=1.26.4",
        "scipy>=1.11.4",
        "SimpleITK>=2.4",
        "nibabel>=5.2.1",
        "batchgenerators>=0.25.1",
        "acvl-utils>=0.2.6",
        "matplotlib>=3.8.4",
        "contourpy>=1.2",
        "pillow>=10.1",
        "tqdm>=4.66.1",
        "jinja2>=3.1.3",
    ],
    extras_require={
        "stress": ["torchio>=1.2,<2"],
        "dev": ["pytest>=8", "monai>=1.4", "torchio>=1.2,<2", "ruff>=0.17,<0.18", "setuptools>=77", "wheel"],
    },
    entry_points={"console_scripts": ["shapekd = nnunet_shapekd.commands.cli:main"]},
)

"""The package with all that `vmss install` needs, and the command `vmss`. For dom0 there is packaging/build."""

import os
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

with open("vmss/version.py", encoding="utf-8") as file:
    VERSION = re.search(r'VERSION = "(.+)"', file.read()).group(1)  # type: ignore[union-attr]
with open("README.md", encoding="utf-8") as file:
    README = file.read()

# What `vmss install` puts in its places; some of it links to where it lies in a checkout.
DATA = [
    os.path.relpath(os.path.join(folder, name), "vmss") for folder, _, names in os.walk("vmss/data") for name in names
]


class BuildModules(build_py):
    """The modules, in a folder that has none of an older build: those that are gone would be installed again."""

    def run(self) -> None:
        shutil.rmtree(os.path.join(self.build_lib, "vmss"), ignore_errors=True)
        super().run()


setup(
    name="vmss",
    version=VERSION,
    description="Scheduled VM snapshots for XenServer and XCP-ng",
    long_description=README,
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.6",
    packages=find_packages(include=["vmss", "vmss.*"]),
    package_data={"vmss": ["py.typed"] + DATA, "vmss.simulator": ["*.json"]},
    install_requires=["XenAPI", "python-dateutil>=2.7"],
    extras_require={
        "install": ["python-crontab"],  # what is run in dom0 every 15 minutes does without
        "yaml": ["PyYAML"],  # `vmss apply` takes JSON without it
        "test": [
            "pytest",
            "pytest-timeout",
            "pytest-cov",
            "pytest-xdist",
            "hypothesis",
            "prometheus_client",
            "python-crontab",
            "PyYAML",
            "ansible-core; python_version >= '3.11'",
            "setuptools",
        ],
        "lint": [
            "pytest",
            "pytest-timeout",
            "hypothesis",
            "mypy",
            "ruff>=0.17,<0.18",
            "types-python-dateutil",
            "types-setuptools",
        ],
    },
    entry_points={"console_scripts": ["vmss = vmss.cli.main:main"]},
    cmdclass={"build_py": BuildModules},
    zip_safe=False,
)

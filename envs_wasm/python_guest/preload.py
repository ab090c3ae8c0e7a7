"""Imports, at build time, every module that a program may import in the guest.

The guest has no file system, so what is not in memory when the image is taken does not exist. Left out on
purpose: whatever talks to the outside world (socket, subprocess, asyncio, ctypes, tempfile).
"""

# ruff: noqa: F401, E402
import sys

import clock  # isort: split

clock.install()

sys.modules["_datetime"] = None  # the C module reads the system's clock, the Python one asks `time`
import datetime  # isort: split

del sys.modules["_datetime"]

import __future__

import _strptime
import abc
import array
import ast
import base64
import binascii
import bisect
import calendar
import cmath
import codecs
import collections
import collections.abc
import colorsys
import contextlib
import contextvars
import copy
import copyreg
import csv
import dataclasses
import decimal
import difflib
import dis
import encodings.ascii
import encodings.base64_codec
import encodings.cp1252
import encodings.hex_codec
import encodings.latin_1
import encodings.raw_unicode_escape
import encodings.rot_13
import encodings.unicode_escape
import encodings.utf_8
import encodings.utf_8_sig
import encodings.utf_16
import encodings.utf_16_be
import encodings.utf_16_le
import encodings.utf_32
import enum
import fractions
import functools
import gc
import graphlib
import hashlib
import heapq
import hmac
import html
import html.entities
import inspect
import io
import ipaddress
import itertools
import json
import json.decoder
import json.encoder
import keyword
import linecache
import locale
import logging
import marshal
import math
import numbers
import operator
import os
import os.path
import pickle
import pprint
import queue
import random
import re
import reprlib
import secrets
import shlex
import stat
import statistics
import string
import string.templatelib
import stringprep
import struct
import symtable
import textwrap
import threading  # queue needs it; starting a thread is refused
import time
import timeit
import token
import tokenize
import traceback
import types
import typing
import unicodedata
import uuid
import warnings
import weakref
import zlib

import _ast_unparse  # the names with an underscore are imported by others on demand
import _pylong
import _suggestions
import annotationlib
import gymnasium
import gymnasium.spaces

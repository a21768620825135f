"""ONNX: conversion, graph simplification and inference."""

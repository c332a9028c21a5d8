"""Votes that outlive the disk they are on: a journal of every change, sound copies, and a private dataset of the Hub that both are pushed to."""

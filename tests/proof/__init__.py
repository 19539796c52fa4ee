"""The proof: real processes killed, hostile answers, hundreds of passes in one process, and steps of the clock."""

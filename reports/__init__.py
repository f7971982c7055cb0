"""Results for people: the HTML report, the timeline page and tables for a terminal."""

"""What a person looks at: the report and the timeline page."""

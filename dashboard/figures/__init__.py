"""Pictures of figures: Plotly for charts, small SVG marks where a table needs them."""

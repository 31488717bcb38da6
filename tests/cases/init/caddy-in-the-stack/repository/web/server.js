// serves pages

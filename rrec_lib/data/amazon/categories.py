"""The categories of Amazon Reviews 2023, and what prompts call their items. A new one is a line of the table."""

NOUNS = {
    "All_Beauty": "beauty product",
    "Amazon_Fashion": "fashion article",
    "Appliances": "appliance",
    "Arts_Crafts_and_Sewing": "craft product",
    "Automotive": "car product",
    "Baby_Products": "baby product",
    "Beauty_and_Personal_Care": "care product",
    "Books": "book",
    "CDs_and_Vinyl": "album",
    "Cell_Phones_and_Accessories": "phone product",
    "Clothing_Shoes_and_Jewelry": "fashion article",
    "Digital_Music": "music release",
    "Electronics": "electronics product",
    "Gift_Cards": "gift card",
    "Grocery_and_Gourmet_Food": "grocery product",
    "Handmade_Products": "handmade product",
    "Health_and_Household": "household product",
    "Health_and_Personal_Care": "health product",
    "Home_and_Kitchen": "home product",
    "Industrial_and_Scientific": "industrial product",
    "Kindle_Store": "e-book",
    "Magazine_Subscriptions": "magazine",
    "Movies_and_TV": "movie",
    "Musical_Instruments": "musical instrument",
    "Office_Products": "office product",
    "Patio_Lawn_and_Garden": "garden product",
    "Pet_Supplies": "pet product",
    "Software": "software product",
    "Sports_and_Outdoors": "sports product",
    "Subscription_Boxes": "boxed subscription",
    "Tools_and_Home_Improvement": "hardware product",
    "Toys_and_Games": "toy",
    "Video_Games": "video game",
}  # each takes an s in the plural


def item_noun(name: str) -> str:
    """What prompts call an item of a category; "item" if the table lacks it.

    Args:
        name: as in the published files' names; what a sample adds behind it, ``"Books_2018"``, is ignored.
    """
    return next((noun for key, noun in NOUNS.items() if f"{name}_".startswith(f"{key}_")), "item")
